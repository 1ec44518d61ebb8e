"""The model store: `exported/<name>/<version>/`, and a pointer that says which version each alias means.

It lies in a folder or at an address of object storage. A version never changes once it is there;
publishing, promoting and rolling back move aliases, each in one step.
"""

from ganaug.store.assembling import BASE_FILE as BASE_FILE
from ganaug.store.assembling import assemble_model as assemble_model
from ganaug.store.collecting import Removed as Removed
from ganaug.store.collecting import gc as gc
from ganaug.store.finding import StoredModel as StoredModel
from ganaug.store.finding import list_models as list_models
from ganaug.store.finding import resolve as resolve
from ganaug.store.finding import verify as verify
from ganaug.store.history import WHO as WHO
from ganaug.store.history import Event as Event
from ganaug.store.history import history as history
from ganaug.store.names import CANDIDATE as CANDIDATE
from ganaug.store.names import POINTER_FILE as POINTER_FILE
from ganaug.store.names import PRODUCTION as PRODUCTION
from ganaug.store.names import STORE as STORE
from ganaug.store.names import packaged_store as packaged_store
from ganaug.store.publishing import aliases as aliases
from ganaug.store.publishing import announce as announce
from ganaug.store.publishing import promote as promote
from ganaug.store.publishing import publish as publish
from ganaug.store.publishing import put_beside as put_beside
from ganaug.store.publishing import rollback as rollback
from ganaug.store.publishing import version_with as version_with
from ganaug.store.signatures import PUBLIC_KEY as PUBLIC_KEY
from ganaug.store.signatures import SIGNATURE_FILE as SIGNATURE_FILE
from ganaug.store.signing import sign as sign
