from .copy import copy_model as copy_model
from .export import export_model as export_model
from .trial import ExportReport as ExportReport
from .web import export_web as export_web
