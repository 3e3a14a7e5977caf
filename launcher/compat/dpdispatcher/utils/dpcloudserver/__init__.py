"""What scripts for DPDispatcher's cloud machines use besides these."""

from .retcode import RETCODE
from .zip_file import unzip_file, zip_file_list

__all__ = ["RETCODE", "unzip_file", "zip_file_list"]
