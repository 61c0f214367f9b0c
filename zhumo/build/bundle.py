from zhumo.bundle import Bundle, load, load_task, save, save_task  # noqa: F401  (moves to zhumo.bundle; import from there)
