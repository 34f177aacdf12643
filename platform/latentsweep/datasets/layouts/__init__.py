"""The layouts of sources: how their files make up scans, and whose each scan is."""
