"""Monitors streams: alerts, clips of audio as evidence, and the log of the programme."""
