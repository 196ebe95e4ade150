"""The published tables of the hospital recordings: Tables 2 to 5 of the supplement.

By part and class: windows, mean, median, standard deviation and total of their lengths in seconds,
patients. The parts are those of Tables 3 to 5; Table 2 is over all of them and has a row of all
classes.
"""

from atcon.experiments.paper import paper_facts

COLUMNS = ("windows", "mean", "median", "std", "total", "patients")
TABLES = {
    part: {label: tuple(numbers) for label, numbers in classes.items()}
    for part, classes in paper_facts()["supplement_tables2_to_5_hospital_video"].items()
    if part != "columns"
}
