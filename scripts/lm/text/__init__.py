"""Text: read, repaired, divided into documents and dealt to batches."""
