"""`python -m streamtag`: the commands."""

from streamtag.cli import main

main()
