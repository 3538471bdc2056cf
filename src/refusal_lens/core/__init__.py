"""Ground floor: what every room may use and no room owns. It imports neither torch nor transformers."""
