"""GraphReport -> pictures: one HTML file, SVG, PNG, Mermaid, DOT, and the tree on a terminal."""
