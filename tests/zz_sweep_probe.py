import sys; sys.path.insert(0,'/work/main/tests')
import pytest, torch, functools, time, os
from test_training_copy import train, watched, folder, tiny_flux, CHOICES
from test_training_copy import *
from tokencache_pack.nodes import train_predictor as tp

def test_inplace(watched, monkeypatch):
    import comfy.ldm.flux.layers as L
    def run(tag):
        t = train(tiny_flux(), save_as=tag, predictor="light", cache_ratio=0.5, seed=3)
        return t
    a = run("a")
    for cls in (L.DoubleStreamBlock, L.SingleStreamBlock):
        own = cls.forward
        def fw(self, *args, _own=own, **kw):
            cl = lambda v: v.clone() if isinstance(v, torch.Tensor) else v
            return _own(self, *map(cl, args), **{k: cl(v) for k, v in kw.items()})
        functools.update_wrapper(fw, own)
        monkeypatch.setattr(cls, "forward", fw)
    monkeypatch.setattr(tp, "allow_mutation_on_saved_tensors", __import__("contextlib").nullcontext)
    b = run("b")
    for k in a.predictor.tensors: 
        d=(a.predictor.tensors[k]-b.predictor.tensors[k]).abs().max(); print(k,d)
    print(a.log, b.log)

SKIP=[]
@pytest.mark.parametrize("name", list(TINY))
def test_family(name, watched):
    tiny = TINY[name]()
    t=time.time()
    try:
        tr = train(tiny, predictor="block", cache_ratio=0.5, steps=4)
        what = "predictor+lora ok"
    except Exception as e:
        what = f"predictor: {type(e).__name__} {str(e)[:150]}"
    try:
        tr = train(tiny, save_as="b", steps=4, loss="run")
        what += " | forecasts+lora ok " + tr.notes["held_out_drift"]+" "+tr.notes["held_out_drift_untrained"]
    except Exception as e:
        what += f" | lora: {type(e).__name__} {str(e)[:150]}"
    print("SWEEP", name, what, f"{time.time()-t:.0f}s", flush=True)
