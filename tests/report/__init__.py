"""The HTML report: made records in, a page in a real browser out."""
