"""How a picture came about: C2PA content credentials, made and read by the c2pa library on this machine alone."""
