"""Step 5 and what follows it: the bundle, its proof, the server, the console."""
