"""The resources of a client: `client.keys.create(…)`. Written once; whether a method blocks is its client's matter."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import wraps
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from skerry.client.call import Call, Page
from skerry.client.requests import (
    batches,
    capacity,
    contracts,
    endpoints,
    files,
    fleet,
    health,
    identity,
    inference,
    log,
    machines,
    money,
    runtime,
    training,
)
from skerry.client.streams import AsyncByteStream, ByteStream

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C")


class Blocking(Protocol):
    def send(self, call: Call[T]) -> T: ...

    def pages(self, call: Call[Page[T]]) -> Iterator[T]: ...

    def stream(self, call: Call[None]) -> ByteStream: ...


class Asynchronous(Protocol):
    def send(self, call: Call[T]) -> Awaitable[T]: ...

    def pages(self, call: Call[Page[T]]) -> AsyncIterator[T]: ...

    def stream(self, call: Call[None]) -> Awaitable[AsyncByteStream]: ...


class Group(Generic[C]):
    """Resources of one kind. `C` is Blocking or Asynchronous."""

    def __init__(self, client: C) -> None:
        self.client: Any = client


class one(Generic[P, T]):
    """A method that sends the request that `build` makes; awaited on the asynchronous client."""

    def __init__(self, build: Callable[P, Call[T]]) -> None:
        self.build = build

    @overload
    def __get__(self, group: Group[Blocking], kind: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, group: Group[Asynchronous], kind: type) -> Callable[P, Awaitable[T]]: ...

    def __get__(self, group: Group[Any], kind: type) -> Callable[P, Any]:
        @wraps(self.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group.client.send(self.build(*args, **kwargs))

        return method


class many(Generic[P, T]):
    """A method that yields all items of a list, page after page; `limit` is the size of a page."""

    def __init__(self, build: Callable[P, Call[Page[T]]]) -> None:
        self.build = build

    @overload
    def __get__(self, group: Group[Blocking], kind: type) -> Callable[P, Iterator[T]]: ...

    @overload
    def __get__(self, group: Group[Asynchronous], kind: type) -> Callable[P, AsyncIterator[T]]: ...

    def __get__(self, group: Group[Any], kind: type) -> Callable[P, Any]:
        @wraps(self.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group.client.pages(self.build(*args, **kwargs))

        return method


class streamed(Generic[P]):
    """A method whose answer is bytes."""

    def __init__(self, build: Callable[P, Call[None]]) -> None:
        self.build = build

    @overload
    def __get__(self, group: Group[Blocking], kind: type) -> Callable[P, ByteStream]: ...

    @overload
    def __get__(self, group: Group[Asynchronous], kind: type) -> Callable[P, Awaitable[AsyncByteStream]]: ...

    def __get__(self, group: Group[Any], kind: type) -> Callable[P, Any]:
        @wraps(self.build)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return group.client.stream(self.build(*args, **kwargs))

        return method


W = TypeVar("W", covariant=True)


class Waits(Protocol[W]):
    """`progress` sees each answer on the way. Times in seconds; without a timeout it waits for ever."""

    def __call__(
        self,
        id: str,
        *,
        timeout: float | None = None,
        poll: float = 1.0,
        progress: Callable[[Any], None] | None = None,
    ) -> W: ...


class until(Generic[T]):
    """A method that asks again and again until `done` says so. Raises TookTooLong."""

    def __init__(self, build: Callable[[str], Call[T]], done: Callable[[T], bool]) -> None:
        self.build = build
        self.done = done

    @overload
    def __get__(self, group: Group[Blocking], kind: type) -> Waits[T]: ...

    @overload
    def __get__(self, group: Group[Asynchronous], kind: type) -> Waits[Awaitable[T]]: ...

    def __get__(self, group: Group[Any], kind: type) -> Any:
        def method(id: str, **how: Any) -> Any:
            return group.client.wait(self.build(id), self.done, **how)

        return method


class Keys(Group[C]):
    list = many(identity.list_keys)
    get = one(identity.get_key)
    create = one(identity.create_key)
    rotate = one(identity.rotate_key)
    revoke = one(identity.revoke_key)


class Projects(Group[C]):
    list = many(identity.list_projects)
    get = one(identity.get_project)
    create = one(identity.create_project)
    update = one(identity.update_project)


class Organizations(Group[C]):
    list = many(identity.list_organizations)
    get = one(identity.get_organization)
    create = one(identity.create_organization)
    update = one(identity.update_organization)


class Members(Group[C]):
    list = many(identity.list_members)
    add = one(identity.add_member)


class Audit(Group[C]):
    list = many(identity.list_audit)
    verify = one(identity.verify_audit)


class Models(Group[C]):
    list = many(inference.list_models)
    callable = many(inference.list_callable_models)
    get = one(inference.get_model)
    add = one(inference.add_model)
    remove = one(inference.remove_model)


class Endpoints(Group[C]):
    list = many(endpoints.list_endpoints)
    get = one(endpoints.get_endpoint)
    create = one(endpoints.create_endpoint)
    estimate = one(endpoints.estimate_endpoint)
    update = one(endpoints.update_endpoint)
    drain = one(endpoints.drain_endpoint)
    resume = one(endpoints.resume_endpoint)
    rollout = one(endpoints.roll_out_endpoint)
    remove = one(endpoints.remove_endpoint)
    load = one(endpoints.endpoint_load)
    logs = streamed(endpoints.endpoint_logs)


class Files(Group[C]):
    upload = one(files.upload_file)
    list = many(files.list_files)
    get = one(files.get_file)
    content = streamed(files.file_content)
    delete = one(files.delete_file)


class Batches(Group[C]):
    create = one(batches.create_batch)
    estimate = one(batches.estimate_batch)
    list = many(batches.list_batches)
    get = one(batches.get_batch)
    cancel = one(batches.cancel_batch)
    wait = until(batches.get_batch, batches.has_ended)


class TrainingJobs(Group[C]):
    """Commands that run on one or more nodes at once."""

    create = one(training.create_job)
    estimate = one(training.estimate_job)
    list = many(training.list_jobs)
    get = one(training.get_job)
    cancel = one(training.cancel_job)
    pause = one(training.pause_job)
    resume = one(training.resume_job)
    goodput = one(training.job_goodput)
    metrics = many(training.job_metrics)
    series = one(training.job_series)
    logs = streamed(training.job_logs)
    wait = until(training.get_job, training.is_resting)


class Requests(Group[C]):
    """The log of answers that were given."""

    list = many(log.list_requests)
    get = one(log.get_request)


class Budgets(Group[C]):
    list = many(money.list_budgets)
    create = one(money.create_budget)
    delete = one(money.delete_budget)


class Contracts(Group[C]):
    """Customers' own prices, and the price book for everybody else."""

    list = many(contracts.list_contracts)
    get = one(contracts.get_contract)
    create = one(contracts.create_contract)
    end = one(contracts.end_contract)
    publish_prices = one(contracts.publish_prices)


class Charges(Group[C]):
    """What is charged once, beside usage."""

    list = many(contracts.list_charges)
    get = one(contracts.get_charge)


class Fleet(Group[C]):
    """The operator's machines."""

    overview = many(fleet.overview)
    plan = one(fleet.plan_fleet)
    apply = one(fleet.apply_fleet)
    catalogue = many(fleet.list_catalogue)
    nodes = many(fleet.list_nodes)
    node = one(fleet.get_node)
    move = one(fleet.move_node)
    deliveries = many(fleet.list_deliveries)
    delivery = one(fleet.get_delivery)
    order = one(fleet.order_delivery)
    reached = one(fleet.reach_milestone)
    slip = one(fleet.slip_delivery)
    maintenance = many(fleet.list_maintenance)
    plan_maintenance = one(fleet.plan_maintenance)
    call_off_maintenance = one(fleet.call_off_maintenance)


class Quotes(Group[C]):
    """Priced offers of capacity."""

    create = one(capacity.create_quote)
    get = one(capacity.get_quote)


class Reservations(Group[C]):
    """Capacity that is held or bought. A change is quoted first, then carried out with `change`."""

    create = one(capacity.reserve)
    estimate = one(capacity.estimate_reservation)
    list = many(capacity.list_reservations)
    get = one(capacity.get_reservation)
    confirm = one(capacity.confirm_reservation)
    drop = one(capacity.drop_reservation)
    quote_cancel = one(capacity.quote_cancel)
    quote_extend = one(capacity.quote_extend)
    quote_shrink = one(capacity.quote_shrink)
    quote_move = one(capacity.quote_move)
    quote_split = one(capacity.quote_split)
    change = one(capacity.change_reservation)
    delivery = one(capacity.get_delivery)
    delivery_hours = many(capacity.list_delivery_hours)


class Instances(Group[C]):
    """Leased machines."""

    create = one(machines.create_instance)
    estimate = one(machines.estimate_instance)
    list = many(machines.list_instances)
    get = one(machines.get_instance)
    stop = one(machines.stop_instance)
    start = one(machines.start_instance)
    terminate = one(machines.terminate_instance)
    wait = until(machines.get_instance, machines.is_settled)


class Clusters(Group[C]):
    """Leased machines that know each other."""

    create = one(machines.create_cluster)
    estimate = one(machines.estimate_cluster)
    list = many(machines.list_clusters)
    get = one(machines.get_cluster)
    stop = one(machines.stop_cluster)
    start = one(machines.start_cluster)
    terminate = one(machines.terminate_cluster)
    wait = until(machines.get_cluster, machines.is_settled)


class Volumes(Group[C]):
    create = one(machines.create_volume)
    list = many(machines.list_volumes)
    get = one(machines.get_volume)
    delete = one(machines.delete_volume)


class SshKeys(Group[C]):
    create = one(machines.create_ssh_key)
    list = many(machines.list_ssh_keys)
    get = one(machines.get_ssh_key)
    delete = one(machines.delete_ssh_key)


class Health(Group[C]):
    """Nodes that are not well, and what is done about them."""

    signals = many(health.list_signals)
    remediations = many(health.list_remediations)
    remediation = one(health.get_remediation)
    decide = one(health.decide_remediation)
    check = one(health.run_check)


class Events(Group[C]):
    list = many(runtime.list_events)
    of = many(runtime.list_resource_events)


class Status(Group[C]):
    alive = one(runtime.alive)
    ready = one(runtime.ready)


class Resources(Group[C]):
    """What both clients offer beside the chat."""

    whoami = one(identity.whoami)
    usage = many(money.usage)
    costs = many(money.costs)
    prices = one(money.prices)
    availability = one(capacity.availability)

    def __init__(self, client: C) -> None:
        super().__init__(client)
        self.keys = Keys(client)
        self.projects = Projects(client)
        self.organizations = Organizations(client)
        self.members = Members(client)
        self.audit = Audit(client)
        self.models = Models(client)
        self.endpoints = Endpoints(client)
        self.files = Files(client)
        self.batches = Batches(client)
        self.jobs = TrainingJobs(client)
        self.requests = Requests(client)
        self.budgets = Budgets(client)
        self.contracts = Contracts(client)
        self.charges = Charges(client)
        self.fleet = Fleet(client)
        self.health = Health(client)
        self.quotes = Quotes(client)
        self.reservations = Reservations(client)
        self.instances = Instances(client)
        self.clusters = Clusters(client)
        self.volumes = Volumes(client)
        self.ssh_keys = SshKeys(client)
        self.events = Events(client)
        self.status = Status(client)
