// A comparison has no script beyond that of all pages.
