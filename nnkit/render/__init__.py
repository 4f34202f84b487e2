"""Reports -> text, JSON, CSV, Markdown. Renderers lay out what a report says; they compute nothing."""
