"""The published tables of the hospital recordings: Tables 2 to 5 of the supplement.

By part and class: windows, mean, median, standard deviation and total of their lengths in seconds,
patients. The parts are those of Tables 3 to 5; Table 2 is over all of them and has a row of all
classes.
"""

COLUMNS = ("windows", "mean", "median", "std", "total", "patients")
TABLES = {
    "all": {
        "suctioning": (45, 14.36, 10, 14.46, 646, 20),
        "chewing": (15, 89.07, 45, 91.23, 1336, 12),
        "rocking": (21, 54.67, 24, 71.08, 1148, 10),
        "cares": (44, 88.66, 46, 170.59, 3901, 23),
        "patting": (33, 38.64, 21, 40.49, 1275, 9),
        "all": (158, 52.57, 25, 104.47, 8306, 59),
    },
    "train": {
        "suctioning": (12, 20.92, 16, 14.92, 251, 5),
        "chewing": (5, 147.4, 130, 98.04, 737, 4),
        "rocking": (6, 92.33, 56, 97.53, 554, 2),
        "cares": (18, 122.56, 41, 255.59, 2206, 8),
        "patting": (10, 42.2, 18, 56, 422, 3),
    },
    "validation": {
        "suctioning": (18, 13.5, 11, 10.96, 243, 7),
        "chewing": (6, 44.33, 20, 42.13, 266, 5),
        "rocking": (8, 45.75, 24, 53.7, 366, 4),
        "cares": (15, 75.33, 65, 50.24, 1130, 10),
        "patting": (17, 31.41, 17, 28.8, 534, 4),
    },
    "test": {
        "suctioning": (15, 10.13, 7, 15.88, 152, 8),
        "chewing": (4, 83.25, 44, 96.14, 333, 3),
        "rocking": (7, 32.57, 17, 43.74, 228, 4),
        "cares": (11, 51.36, 34, 50.54, 565, 5),
        "patting": (6, 53.17, 52, 32.53, 319, 2),
    },
}
