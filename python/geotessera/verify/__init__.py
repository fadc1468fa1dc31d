"""Re-checking files on disk: against what is published, what was recorded, and themselves."""

from geotessera.verify.directory import VerifyReport, verify_directory
from geotessera.verify.structure import Finding, Problem

__all__ = ["Finding", "Problem", "VerifyReport", "verify_directory"]
