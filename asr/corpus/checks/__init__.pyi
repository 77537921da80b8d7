from .examination import Examination as Examination
from .examination import examine as examine
from .examination import sort_findings as sort_findings
from .examination import write_cure as write_cure
from .findings import Finding as Finding
from .shards import is_sharded as is_sharded
from .sound import Case as Case
