"""Step 5 and what follows it: the bundle and its proof, the server with its console, answers to a file."""
