"""What is measured, a module each; `measure` returns its section of the page."""
