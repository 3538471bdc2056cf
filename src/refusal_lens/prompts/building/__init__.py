"""Getting and making prompt folders: download, translation, corrections, export, cards."""
