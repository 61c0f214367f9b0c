"""`python -m zhumo` is `zhumo`."""

from zhumo.cli import main

main()
