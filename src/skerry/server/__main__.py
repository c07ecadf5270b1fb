import sys

from skerry.server.main import main

sys.exit(main())
