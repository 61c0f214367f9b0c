"""Step 5 and what follows it: the bundle and its proof, the server with its console, answers to a file."""

from zhumo.deploy.answer import answer_file
from zhumo.deploy.server import create_app, serve
from zhumo.deploy.step import deploy

__all__ = ["answer_file", "create_app", "deploy", "serve"]
