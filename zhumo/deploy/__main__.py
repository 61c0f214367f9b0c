"""`python -m zhumo.deploy BUNDLE...`: the server alone, on a free port of loopback; the parity gate starts it so."""

import sys

from zhumo.deploy.server import serve

serve(sys.argv[1:], port=0)
