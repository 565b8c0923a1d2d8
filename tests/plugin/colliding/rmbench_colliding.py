class Length:
    pass
