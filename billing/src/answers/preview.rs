//! Answer: a tenant's invoices as they would be now.

use pricing::document::InvoiceDocument;
use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::{invoice::PaymentAnswer, written::text};
use crate::wire::{self, NotUnderstood};

/// The invoices of a tenant's periods that begin in a month, if they were made now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PreviewAnswer {
    /// Whose invoices.
    pub tenant: String,
    /// The month in which the periods begin.
    #[schema(example = "2024-09")]
    pub period: String,
    /// The version that was used as the latest catalogue.
    pub catalogue: String,
    /// In the order of their periods, without those that have nothing to bill.
    pub invoices: Vec<PreviewedInvoice>,
    /// What those periods lack.
    pub set_aside: SetAsideAnswer,
}

/// An invoice as it would be now, with what prepaid credits would pay of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PreviewedInvoice {
    /// What it would say.
    #[serde(flatten)]
    pub document: InvoiceDocument,
    /// What prepaid credits would pay of it.
    pub payments: Vec<PaymentAnswer>,
    /// What would be left to pay, a decimal.
    #[schema(example = "52.40")]
    pub due: String,
    /// Numbers of the documents that bill the period already. Payments and `due` are as if there were
    /// none; a run for deltas bills what differs from them.
    pub documents: Vec<String>,
}

/// Pulses that were late or dead-lettered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SetAsideAnswer {
    /// At most how many, a whole number.
    #[serde(serialize_with = "text")]
    #[schema(value_type = String, example = "0")]
    pub pulses: u64,
    /// Whether all of the tenant's were looked at; there are more where not.
    pub complete: bool,
}

impl PreviewAnswer {
    /// What a message says.
    ///
    /// # Errors
    /// When an invoice in it is not understood.
    pub fn of_message(message: v1::PreviewBillResponse) -> Result<Self, NotUnderstood> {
        // A server of another version says nothing about payments.
        let payments = message.payments.into_iter().map(Some).chain(std::iter::repeat(None));
        let invoices = message.invoices.into_iter().zip(payments).map(|(document, payments)| {
            let v1::PreviewPayments { payments, due, documents } = payments.unwrap_or_default();
            let payments = payments.into_iter().map(PaymentAnswer::from).collect();
            let document = wire::of_document(document)?;
            Ok(PreviewedInvoice { document, payments, due, documents })
        });
        let v1::UsageSetAside { pulses, complete } = message.set_aside.unwrap_or_default();
        Ok(Self {
            tenant: message.tenant,
            period: message.period,
            catalogue: message.catalogue,
            invoices: invoices.collect::<Result<_, _>>()?,
            set_aside: SetAsideAnswer { pulses, complete },
        })
    }

    /// As a message.
    pub(crate) fn message(self) -> v1::PreviewBillResponse {
        let SetAsideAnswer { pulses, complete } = self.set_aside;
        let made = |made: PreviewedInvoice| {
            let payments = made.payments.into_iter().map(v1::CreditPayment::from).collect();
            let (due, documents) = (made.due, made.documents);
            let payments = v1::PreviewPayments { payments, due, documents };
            (wire::document(made.document), payments)
        };
        let (invoices, payments) = self.invoices.into_iter().map(made).unzip();
        v1::PreviewBillResponse {
            tenant: self.tenant,
            period: self.period,
            catalogue: self.catalogue,
            invoices,
            payments,
            set_aside: Some(v1::UsageSetAside { pulses, complete }),
        }
    }
}
