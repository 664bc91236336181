"""Archives: many recordings tagged on all cores or on a cluster, into Parquet."""
