"""The live door against a real HTTP server that lists, pages, watches, forgets, stalls, refuses and hangs up."""
