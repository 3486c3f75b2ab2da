//! Answer: what another catalogue or other contracts would change, as a message and back.

use pricing::simulate::{CurrencyChange, FailedTenant, Simulation, SkuChange, TenantChange};
use proto::v1;

use crate::wire::{NotUnderstood, word};

/// What a message says.
///
/// # Errors
/// When an amount in it is not understood.
pub fn of_message(message: v1::SimulateResponse) -> Result<Simulation, NotUnderstood> {
    let totals = message.totals.into_iter().map(|total| {
        Ok(CurrencyChange {
            old: word("totals.old", &total.old)?,
            new: word("totals.new", &total.new)?,
            difference: word("totals.difference", &total.difference)?,
            currency: total.currency,
        })
    });
    let failed = message.failed.into_iter();
    let failed =
        failed.map(|v1::FailedTenant { tenant, message }| FailedTenant { tenant, message });
    Ok(Simulation {
        period: message.period,
        old_catalogue: message.old_catalogue,
        new_catalogue: message.new_catalogue,
        contracts: message.contracts,
        tenants: message.tenants.into_iter().map(of_tenant).collect::<Result<_, _>>()?,
        totals: totals.collect::<Result<_, _>>()?,
        failed: failed.collect(),
        failed_left_out: message.failed_left_out,
    })
}

fn of_tenant(tenant: v1::TenantChange) -> Result<TenantChange, NotUnderstood> {
    let skus = tenant.skus.into_iter().map(|sku| {
        Ok(SkuChange {
            old: word("skus.old", &sku.old)?,
            new: word("skus.new", &sku.new)?,
            product_sku: sku.product_sku,
        })
    });
    Ok(TenantChange {
        old: word("tenants.old", &tenant.old)?,
        new: word("tenants.new", &tenant.new)?,
        difference: word("tenants.difference", &tenant.difference)?,
        tenant: tenant.tenant,
        currency: tenant.currency,
        first_day: tenant.first_day,
        last_day: tenant.last_day,
        change_permille: tenant.change_permille,
        unpriced_old: tenant.unpriced_old,
        unpriced_new: tenant.unpriced_new,
        skus: skus.collect::<Result<_, _>>()?,
        documents: tenant.documents,
    })
}

/// A comparison as a message.
pub(crate) fn message(simulation: Simulation) -> v1::SimulateResponse {
    let totals = simulation.totals.into_iter().map(|total| v1::CurrencyChange {
        currency: total.currency,
        old: total.old.to_string(),
        new: total.new.to_string(),
        difference: total.difference.to_string(),
    });
    let failed = simulation.failed.into_iter();
    let failed =
        failed.map(|FailedTenant { tenant, message }| v1::FailedTenant { tenant, message });
    v1::SimulateResponse {
        period: simulation.period,
        old_catalogue: simulation.old_catalogue,
        new_catalogue: simulation.new_catalogue,
        contracts: simulation.contracts,
        tenants: simulation.tenants.into_iter().map(tenant).collect(),
        totals: totals.collect(),
        failed: failed.collect(),
        failed_left_out: simulation.failed_left_out,
    }
}

fn tenant(tenant: TenantChange) -> v1::TenantChange {
    let skus = tenant.skus.into_iter().map(|sku| v1::SkuChange {
        product_sku: sku.product_sku,
        old: sku.old.to_string(),
        new: sku.new.to_string(),
    });
    v1::TenantChange {
        tenant: tenant.tenant,
        currency: tenant.currency,
        first_day: tenant.first_day,
        last_day: tenant.last_day,
        old: tenant.old.to_string(),
        new: tenant.new.to_string(),
        difference: tenant.difference.to_string(),
        change_permille: tenant.change_permille,
        unpriced_old: tenant.unpriced_old,
        unpriced_new: tenant.unpriced_new,
        skus: skus.collect(),
        documents: tenant.documents,
    }
}
