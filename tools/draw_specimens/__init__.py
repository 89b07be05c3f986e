"""Draws the specimen pictures in `veriff_async/sandbox/_specimens`, which `veriff-async demo` uploads.

The country, its emblem and the person are invented, and every picture says SPECIMEN. XEX is a country code that ISO
3166 reserves for private use, so no state has it. The same version of Pillow draws the same pixels.
"""
