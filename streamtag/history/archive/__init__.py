"""Tags many recordings, on all cores or a Ray cluster, into Parquet tables, and queries them."""
