"""Reports: from a store to figures, which are data, and from those to one HTML file. No torch is loaded here.

``compare.write_report`` writes the report of a comparison; ``figure``, ``draw_svg`` and ``page`` serve any report.
"""
