"""Commands that work on what runs leave behind. Nothing else in the package imports them."""
