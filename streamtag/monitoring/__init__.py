"""What a monitoring desk needs from the feed: alerts, clips of audio as evidence, the programme log."""
