//! The gRPC door: `QueryService` and `OperationsService`.

use std::sync::Arc;

use domain::{
    BlockStore, DeadLetter, DeadLetterGroup, PulseLog, Total,
    refold::{Outcomes, OutcomesPiece},
};
use edge::{access::Principal, grpc::Services, paging};
use proto::{
    convert::wire_time,
    v1::{
        self,
        operations_service_server::{OperationsService, OperationsServiceServer},
        query_service_server::{QueryService, QueryServiceServer},
    },
};
use tonic::{Request, Response, Status};

use crate::{
    api::{OutcomesRequest, QueryApi},
    dead_letters::DeadLettersRequest,
    status::PartitionStatus,
    usage::{
        UsageTotal,
        request::{FieldNames, Moment, UsageRequest},
    },
};

/// Both services.
pub struct QueryGrpc<U, L> {
    api: Arc<QueryApi<U, L>>,
}

/// Most bytes of a question: names, a time zone, and a page token.
const REQUEST_BYTES_MAX: usize = 64 << 10;

/// Both, for the edge.
pub(crate) fn services<U: BlockStore, L: PulseLog>(api: &Arc<QueryApi<U, L>>) -> Services {
    Services::default()
        .with(query_service(Arc::clone(api)), REQUEST_BYTES_MAX)
        .with(operations_service(Arc::clone(api)), REQUEST_BYTES_MAX)
}

/// `QueryService`, ready to be added to a tonic server.
#[must_use]
pub fn query_service<U: BlockStore, L: PulseLog>(
    api: Arc<QueryApi<U, L>>,
) -> QueryServiceServer<QueryGrpc<U, L>> {
    QueryServiceServer::new(QueryGrpc { api })
}

/// `OperationsService`, ready to be added to a tonic server.
#[must_use]
pub fn operations_service<U: BlockStore, L: PulseLog>(
    api: Arc<QueryApi<U, L>>,
) -> OperationsServiceServer<QueryGrpc<U, L>> {
    OperationsServiceServer::new(QueryGrpc { api })
}

#[tonic::async_trait]
impl<U: BlockStore, L: PulseLog> QueryService for QueryGrpc<U, L> {
    async fn query_usage(
        &self,
        request: Request<v1::QueryUsageRequest>,
    ) -> Result<Response<v1::QueryUsageResponse>, Status> {
        let principal = Principal::of(request.extensions())?;
        let request = usage_request(request.into_inner());
        let answer = self.api.usage(&request, FieldNames::GRPC, &principal).await?;
        Ok(Response::new(v1::QueryUsageResponse {
            rows: answer.rows.into_iter().map(usage_row).collect(),
            freshness: Some(v1::Freshness {
                as_of: answer.freshness.as_of.map(wire_time),
                complete_until: answer.freshness.complete_until.map(wire_time),
            }),
            next_page_token: answer.next_page_token.unwrap_or_default(),
        }))
    }
}

#[tonic::async_trait]
impl<U: BlockStore, L: PulseLog> OperationsService for QueryGrpc<U, L> {
    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let status = self.api.status().await;
        let pulses = status.pulses;
        Ok(Response::new(v1::GetStatusResponse {
            healthy: status.is_healthy(),
            partitions: status.partitions.iter().map(partition_status).collect(),
            pulses: Some(v1::PulseCounts {
                read: pulses.read,
                control: pulses.control,
                accepted: pulses.accepted,
                duplicate: pulses.duplicate,
                late: pulses.late,
                dead_lettered: pulses.dead_lettered,
                erased: pulses.erased,
            }),
            versions: status.versions.into_iter().collect(),
            problems: status.problems,
        }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<v1::ListDeadLettersRequest>,
    ) -> Result<Response<v1::ListDeadLettersResponse>, Status> {
        let principal = Principal::of(request.extensions())?;
        let v1::ListDeadLettersRequest { page_size, page_token, reason, generation, tenant } =
            request.into_inner();
        let request = DeadLettersRequest {
            generation: number_text(generation),
            reason,
            tenant,
            page_size: paging::size_text(page_size),
            page_token,
        };
        let page = self.api.dead_letters(&request, &principal).await?;
        Ok(Response::new(v1::ListDeadLettersResponse {
            entries: page.entries.into_iter().map(dead_letter_group).collect(),
            next_page_token: page.next_page_token.unwrap_or_default(),
        }))
    }

    async fn get_dead_letter(
        &self,
        request: Request<v1::GetDeadLetterRequest>,
    ) -> Result<Response<v1::DeadLetter>, Status> {
        let principal = Principal::of(request.extensions())?;
        let v1::GetDeadLetterRequest { partition, offset, index, generation } =
            request.into_inner();
        let place = (partition, offset, index);
        let letter = self.api.dead_letter(place, &number_text(generation), &principal).await?;
        Ok(Response::new(dead_letter(letter)))
    }

    async fn count_outcomes(
        &self,
        request: Request<v1::CountOutcomesRequest>,
    ) -> Result<Response<v1::CountOutcomesResponse>, Status> {
        let request = request.into_inner();
        let request = OutcomesRequest {
            request_id: request.request_id,
            partition: request.partition,
            offsets: request.offset_start..request.offset_end,
            generation: number_text(request.generation),
        };
        Ok(Response::new(outcomes(self.api.outcomes(request).await?)))
    }
}

fn outcomes(OutcomesPiece { outcomes, next }: OutcomesPiece) -> v1::CountOutcomesResponse {
    let Outcomes { counted, duplicate, set_aside } = outcomes;
    let set_aside = set_aside.into_iter().map(|(reason, set_aside)| v1::SetAside {
        reason: reason.as_str().to_owned(),
        count: set_aside.count,
        time_first: set_aside.times.map(|(first, _)| wire_time(first)),
        time_last: set_aside.times.map(|(_, last)| wire_time(last)),
        message: set_aside.message,
    });
    let set_aside = set_aside.collect();
    v1::CountOutcomesResponse { counted, duplicate, set_aside, next_offset: next.0 }
}

/// A number of a request, where 0 stands for an absent field.
fn number_text(number: u32) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn usage_request(request: v1::QueryUsageRequest) -> UsageRequest {
    let moment =
        |time: prost_types::Timestamp| Moment::Parts { seconds: time.seconds, nanos: time.nanos };
    UsageRequest {
        tenant: request.tenant,
        product_sku: request.product_sku,
        use_unity: request.use_unity,
        from: request.from.map(moment),
        to: request.to.map(moment),
        window: request.window,
        group_by: request.group_by,
        time_zone: request.time_zone,
        page_size: paging::size_text(request.page_size),
        page_token: request.page_token,
    }
}

fn usage_row(total: UsageTotal) -> v1::UsageRow {
    let UsageTotal { key, window, total } = total;
    let Total { count, sum, min, max, last, .. } = total;
    v1::UsageRow {
        tenant: key.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        product_sku: key.product_sku.map(|sku| sku.to_string()).unwrap_or_default(),
        use_unity: key.use_unity.map(|unit| unit.to_string()).unwrap_or_default(),
        dimensions: key.dimensions.pairs().into_iter().collect(),
        window_start: Some(wire_time(window.start)),
        window_end: Some(wire_time(window.end)),
        count: u64::try_from(count).unwrap_or(u64::MAX),
        sum: sum.to_string(),
        min: min.to_string(),
        max: max.to_string(),
        last: last.to_string(),
    }
}

fn partition_status(status: &PartitionStatus) -> v1::PartitionStatus {
    v1::PartitionStatus {
        generation: status.generation,
        partition: status.partition.0.into(),
        log_end: status.log_end.0,
        folded_to: status.folded_to.0,
        lag_records: status.lag_records(),
        folded_time: status.folded_time.map(wire_time),
    }
}

fn dead_letter_group(group: DeadLetterGroup) -> v1::DeadLetter {
    let DeadLetterGroup { key, offset_last, count, time_first, time_last, sample } = group;
    v1::DeadLetter {
        partition: key.segment.partition.0.into(),
        offset: sample.offset.0,
        index: sample.index,
        reason: key.reason.as_str().to_owned(),
        tenant: key.tenant,
        product_sku: sample.product_sku,
        time: sample.time.map(wire_time),
        message: sample.message,
        payload: Vec::new(),
        count,
        offset_last: offset_last.0,
        time_first: time_first.map(wire_time),
        time_last: time_last.map(wire_time),
        segment_start: Some(key.segment.start.0),
    }
}

fn dead_letter(letter: DeadLetter) -> v1::DeadLetter {
    let time = letter.time.map(wire_time);
    v1::DeadLetter {
        partition: letter.partition.0.into(),
        offset: letter.offset.0,
        index: letter.index,
        reason: letter.reason.as_str().to_owned(),
        tenant: letter.tenant,
        product_sku: letter.product_sku,
        time,
        message: letter.message,
        payload: letter.payload,
        count: 1,
        offset_last: letter.offset.0,
        time_first: time,
        time_last: time,
        segment_start: None,
    }
}
