"""nbgrader's settings for the assignments; nbgrader reads this file in the folder that it is called in."""

c = get_config()  # noqa: F821 (nbgrader defines it)

c.CourseDirectory.course_id = "saliency"
c.Execute.timeout = 60  # seconds a cell: one that hangs loses its own points, and the next cells go on
# zip_collect: files from a learning platform are called STUDENT_1_mask_layer.ipynb, and so on
c.FileNameCollectorPlugin.named_regexp = r".*?(?P<student_id>[^/_]+)_(?P<file_id>[1-3]_\w+)"
