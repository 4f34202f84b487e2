"""Ten networks in the signatures that their authors gave them, as a plugin of nnkit."""
