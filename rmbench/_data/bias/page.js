// This page needs no script beside those of all pages.
