"""What a monitoring desk needs from the feed: alerts, clips as evidence, the programme log."""
