"""EditMGT's three training phases (Secs. 3.1 and 3.3, C.1), on pictures of your own or on a small world of shapes."""
