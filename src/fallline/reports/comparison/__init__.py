"""The parts of a comparison's report, one to a file; :mod:`fallline.reports.compare` puts them together."""
