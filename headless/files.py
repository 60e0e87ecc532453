"""Writing files so that each is either whole or not there: what the rest of the headless runner writes with."""

from ..models.files import check_writable, make_folder, write

__all__ = ["check_writable", "make_folder", "write"]
