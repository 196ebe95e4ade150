import shutil

from atcon.experiments.cell_record import cell_record
from atcon.experiments.folder import RunFolder


def test_a_record_does_not_depend_on_the_order_in_which_the_images_were_judged(
    finished_run, tmp_path
):
    turned = tmp_path / "turned"
    shutil.copytree(finished_run, turned)
    for path in [*turned.glob("predictions/*.csv"), *turned.glob("localisation/*.csv")]:
        head, *rows = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join([head, *reversed(rows)]) + "\n", encoding="utf-8")
    assert cell_record(RunFolder(turned)) == cell_record(RunFolder(finished_run))
