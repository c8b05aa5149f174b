"""Small programs that can tell how a process ends: what they leave must be what they leave under plain ``python``."""

from __future__ import annotations

ENDINGS: dict[str, str] = {
    "prints": "import sys; print('out'); print('err', file=sys.stderr)",
    "no newline": "import sys; sys.stdout.write('a half'); sys.stderr.write('another')",
    "thread": """
import threading, time
def late():
    time.sleep(0.2)
    open('late', 'w').write('written')
threading.Thread(target=late).start()""",
    "thread raises": """
import threading
def late():
    threading.main_thread().join()
    raise ValueError('in a thread')
threading.Thread(target=late, name='late').start()""",
    "daemon thread": """
import threading, time
seen = []
def again():
    while True:
        seen.append(time.monotonic())
        time.sleep(0.0001)
threading.Thread(target=again, daemon=True).start()
class Slow:
    def __del__(self):
        time.sleep(0.1)
slow = Slow()
time.sleep(0.05)""",
    "atexit order": """
import atexit
for number in range(3):
    atexit.register(lambda number=number: open('order', 'a').write(f'{number} '))""",
    "atexit raises": """
import atexit
atexit.register(print, 'still called')
@atexit.register
def bad():
    raise ValueError('at exit')""",
    "atexit exits": """
import atexit, sys
atexit.register(sys.exit, 7)""",
    "atexit registers": """
import atexit
atexit.register(lambda: atexit.register(print, 'later'))""",
    "atexit sees the error": """
import atexit, sys
atexit.register(lambda: print('seen:', getattr(sys, 'last_value', None)))
raise ValueError('the error')""",
    "exit 3": "raise SystemExit(3)",
    "exit none": "import sys; sys.exit(None)",
    "exit true": "import sys; sys.exit(True)",
    "exit negative": "import sys; sys.exit(-3)",
    "exit 256": "import sys; sys.exit(256)",
    # From 3.13 on, Python also tells where it kept its error at the end, which is an accident.
    "exit huge": "import sys; sys.unraisablehook = lambda *_: None; sys.exit(2**70)",
    "exit words": "import sys; sys.exit('words to end with')",
    "exit tuple": "import sys; sys.exit((1, 2))",
    "exit in a function": """
import sys
kept = open('kept', 'w')
def main():
    held = open('held', 'w')
    held.write('of a frame')
    kept.write('of the module')
    sys.exit(5)
main()""",
    "raises": """
import atexit
atexit.register(print, 'at exit')
kept = open('kept', 'w')
kept.write('before the error')
def f():
    raise ValueError('no')
f()""",
    "own excepthook": """
import sys
sys.excepthook = lambda kind, error, trace: print('mine:', error)
1 / 0""",
    "interrupted": """
kept = open('kept', 'w')
kept.write('before')
raise KeyboardInterrupt""",
    "leaves at once": "import os; kept = open('kept', 'w'); kept.write('lost'); os._exit(6)",
    "open file": "kept = open('kept', 'w'); kept.write('never closed')",
    "open file in a cycle": """
class Node: pass
node = Node()
node.node, node.file = node, open('kept', 'wb')
node.file.write(b'in a cycle')
del node""",
    "open file of a library": "import json; json.kept = open('kept', 'w'); json.kept.write('held by json')",
    "open archive of a library": """
import gzip, json
json.kept = gzip.GzipFile('kept.gz', 'wb', mtime=0)
json.kept.write(b'held by json' * 99)""",
    "open archives": """
import gzip, zipfile
packed = gzip.GzipFile('kept.gz', 'wb', mtime=0)
packed.write(b'packed' * 99)
archive = zipfile.ZipFile('kept.zip', 'w')
archive.writestr(zipfile.ZipInfo('name'), b'of an archive')""",
    "no collections": """
import gc
gc.disable()
class Node: pass
node = Node()
node.node, node.file = node, open('kept', 'w')
node.file.write('in a cycle')
del node""",
    "shelf": """
import shelve
shelf = shelve.open('shelf', writeback=True)
shelf['key'] = []
shelf['key'].append(1)
import dbm, subprocess, sys
import atexit""",
    "temporary": """
import tempfile
folder = tempfile.TemporaryDirectory(dir='.')
file = tempfile.NamedTemporaryFile(dir='.')
file.write(b'x')""",
    "finalizers": """
import weakref
class Thing: pass
things = [Thing(), Thing(), Thing()]
for number, thing in enumerate(things):
    weakref.finalize(thing, print, 'finalized', number).atexit = number != 1""",
    "del": """
class Thing:
    def __init__(self, name): self.name = name
    def __del__(self): print(self.name, 'of', len(names))
names = ['a', 'b', '_c']
a, b, _c = map(Thing, names)""",
    "del without functions": """
import types
Thing = type('Thing', (), {'__del__': lambda self, say=print: say(self.__dict__)})
for name in ('a', '_b', 'c'):
    globals()[name] = Thing()
    globals()[name].name = name
del Thing""",
    "del and garbage": """
class Thing:
    def __init__(self, name): self.name = name
    def __del__(self): print(self.name)
kept = Thing('kept')
garbage = Thing('garbage')
garbage.itself = garbage
del garbage""",
    "del after the thread": """
import threading, time
class Thing:
    def __del__(self): print('last')
thing = Thing()
threading.Thread(target=lambda: (time.sleep(0.1), print('first'))).start()""",
    "del asks": """
import sys
class Thing:
    def __del__(self): print('finalizing:', sys.is_finalizing(), sys.meta_path)
thing = Thing()""",
    "del imports": """
class Thing:
    def __del__(self): import wave
thing = Thing()""",
    "del raises": """
class Thing:
    def __del__(self): raise ValueError('in del')
thing = Thing()""",
    "del of builtins": """
import builtins
class Thing:
    def __del__(self): print('held by builtins')
builtins.thing = Thing()""",
    "del of a module": """
import pathlib, sys
pathlib.Path('mine.py').write_text('''
class Thing:
    def __del__(self): print('of my module', name)
name = 'mine'
thing = Thing()
''')
sys.path.insert(0, '.')
sys.dont_write_bytecode = True
import mine""",
    "del of a kept module": """
import json, sys
class Thing:
    def __del__(self): print('of a module that json keeps')
json.kept = sys.modules['__main__']
thing = Thing()""",
    "del of stdout": """
import sys
class Mine:
    def write(self, text): pass
    def flush(self): pass
    def __del__(self): print('written to stdout again')
sys.stdout = Mine()""",
    "generator": """
def numbers():
    try:
        yield 1
    finally:
        print('closed')
waiting = numbers()
next(waiting)""",
    "child": """
import multiprocessing, time
def work():
    time.sleep(0.2)
    open('child', 'w').write('done')
multiprocessing.get_context('fork').Process(target=work).start()""",
    "daemon child": """
import multiprocessing, time
def work():
    time.sleep(20)
    open('child', 'w').write('done')
multiprocessing.get_context('fork').Process(target=work, daemon=True).start()""",
    "pool": """
import multiprocessing
pool = multiprocessing.get_context('fork').Pool(1)
print(pool.map(abs, [-1, 2]))""",
    "shared memory": """
from multiprocessing import shared_memory
import os
left = shared_memory.SharedMemory('lockstep-' + os.path.basename(os.getcwd()), create=True, size=9)""",
    "forked": """
import os
kept = open('kept', 'w')
if os.fork() == 0:
    kept.write('child ')
    raise SystemExit(4)
print(os.wait()[1])
kept.write('parent ')""",
    "futures": """
import concurrent.futures, time
pool = concurrent.futures.ThreadPoolExecutor(1)
for number in range(3):
    pool.submit(lambda number=number: (time.sleep(0.05), open('futures', 'a').write(str(number))))""",
    "task": """
import asyncio
async def wait():
    await asyncio.sleep(9)
loop = asyncio.new_event_loop()
task = loop.create_task(wait(), name='waits')
loop.call_later(0.01, loop.stop)
loop.run_forever()""",
    "logging": """
import logging, logging.handlers
target = logging.FileHandler('log')
logging.getLogger().addHandler(logging.handlers.MemoryHandler(99, target=target))
logging.error('kept in memory')""",
    "warned": """
import warnings
warnings.simplefilter('always')
kept = open('kept', 'w')""",
    "full stdout": """
import sys
sys.stdout = open('/dev/full', 'w')
print('lost')""",
    "full stderr": """
import sys
sys.stderr = open('/dev/full', 'w')
print('lost', file=sys.stderr)
sys.stderr.reconfigure(line_buffering=False)
sys.stderr.write('lost, too')""",
    "full stdout at 3": """
import sys
sys.stdout = open('/dev/full', 'w')
print('lost')
sys.exit(3)""",
    "own stdout": """
import sys
class Tee:
    def __init__(self, stream): self.stream, self.kept = stream, []
    def write(self, text): self.kept.append(text)
    def flush(self):
        self.stream.write(f'flush of {len(self.kept)}\\n')
sys.stdout = Tee(sys.stdout)
print('teed')""",
    "own stdout fails": """
import sys
class Bad:
    def write(self, text): pass
    def flush(self): raise ValueError('no flush')
sys.stdout = Bad()""",
    "wrapped stdout": """
import io, os, sys
sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(1), 'wb'))
print('wrapped')""",
    "closed stdout": "import sys; print('before'); sys.stdout.close()",
    "c stdio": """
import ctypes
libc = ctypes.CDLL(None)
libc.printf(b'of C without a newline')
libc.fopen.restype = ctypes.c_void_p
file = libc.fopen(b'c', b'w')
libc.fputs(b'never closed', ctypes.c_void_p(file))""",
    "c exit": """
import ctypes
libc = ctypes.CDLL(None)
for text in (b'first', b'second'):
    buffer = ctypes.create_string_buffer(text)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(buffer))
    libc.__cxa_atexit(ctypes.cast(libc.puts, ctypes.c_void_p), buffer, None)""",
    "hooks": """
import sys
sys.unraisablehook = lambda unraisable: print('unraisable:', unraisable.exc_value)
class Thing:
    def __del__(self): raise ValueError('in del')
thing = Thing()""",
}

WITH_TORCH: dict[str, str] = {
    "group is left": """
import torch, torch.distributed as dist
dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
ones = torch.ones(1)
dist.all_reduce(ones)
print(ones)""",
    "wrapped model is left": """
import torch, torch.distributed as dist
dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2))
model(torch.ones(1, 3)).sum().backward()
dist.all_reduce(torch.ones(1), async_op=True)""",
    "loader is left": """
import torch
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, index): return torch.tensor(index)
batches = iter(torch.utils.data.DataLoader(Data(), 2, num_workers=1, persistent_workers=True))
print(next(batches))""",
    "shared tensor": """
import torch
tensor = torch.ones(9).share_memory_()
torch.save(tensor, open('saved', 'wb'))""",
    "hook": """
import torch
class Thing:
    def __del__(self): print('del of a hook')
thing = Thing()
weight = torch.ones(2, requires_grad=True)
weight.register_hook(lambda gradient, thing=thing: None)
loss = (weight * 2).sum()
loss.backward()""",
}
