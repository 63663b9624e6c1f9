import drgn,sys,time
prog=drgn.Program(); prog.set_core_dump(sys.argv[1])
import iommutables as i
m=i.Memory.open(sys.argv[1]); mc=i.Machine.find(m)
print(m.ranges[:5], len(m.ranges))
for c in m.find()[:3]: print(c)
a=m.find()[0].address
print(prog.read(a,16,True))
for addr in (0, 0xf0000000, 1<<40):
    try: print(hex(addr), prog.read(addr,16,True))
    except Exception as e: print(hex(addr),type(e),e, getattr(e,'address',None))
print(prog['VMCOREINFO'].string_().decode()[-2000:])
print([x for x in dir(prog) if not x.startswith('_')])
