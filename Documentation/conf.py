# SPDX-License-Identifier: GPL-2.0-only
# For sphinx-build; the texts read as well without it.
project = 'vmplat'
copyright = 'the vmplat authors'
master_doc = 'index'
highlight_language = 'none'
html_theme = 'alabaster'
