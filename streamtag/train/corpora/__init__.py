"""Corpora: labelled recordings, whatever their owners' files look like.

One module per format; `read_corpus` sees which it is.
"""
