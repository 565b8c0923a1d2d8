raise ImportError("libreward.so.3: cannot open shared object file")
