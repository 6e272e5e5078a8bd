"""One net on several devices: its layers split, or its parts on a device each."""
