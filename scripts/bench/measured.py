"""Runs a command; its last line of output says what that took: {"seconds", "processor_seconds", "peak_bytes"}, the most memory of one process."""

import json
import resource
import subprocess
import sys
import time

start = time.monotonic()
status = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
seconds = time.monotonic() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
processor = used.ru_utime + used.ru_stime
print(json.dumps({"seconds": seconds, "processor_seconds": processor, "peak_bytes": 1024 * used.ru_maxrss}))
sys.exit(status)
