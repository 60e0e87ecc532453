import shutil
from pathlib import Path
S = Path(__file__).with_name("painter.mjs")
def test_look(page, root):
    shutil.copy(root/"workflows/media/mountain_path.jpg", page.server.base/"input")
    i = page.run(S, "wire", photo="mountain_path.jpg", type="EditKitRemoveObject", scale=1.0)
    print(page.screenshot("a"))
    print(page.run(S,"slide",name="size",value=30))
    page.run(S,"drag",points=[[.3,.5],[.6,.55],[.7,.4]])
    print(page.run(S,"slide",name="strength",value=50))
    page.run(S,"drag",points=[[.3,.8],[.6,.8]])
    print(page.screenshot("b"))
    r=page.run(S,"prompt",id=i); print(r["inputs"], r["nodes"])
    print(page.run(S,"shown",points=[[.3,.5],[.9,.9],[.4,.8]]))
    print(page.problems())
