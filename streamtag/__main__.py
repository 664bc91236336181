"""`python -m streamtag`: the commands."""

from streamtag.cli.main import main

main()
